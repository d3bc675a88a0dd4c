# An operator: gets a model folder, writes the deployment files, runs two workers with keys, watches and cleans up.
tamis train data/sms-spam.csv -o models/spam
tamis deploy env > env.sample
tamis deploy systemd models/spam -o units/
tamis deploy nginx models/spam --host classify.example.org --tls > nginx.conf
tamis deploy kubernetes models/spam -o k8s/
export TAMIS_STATE_DIRECTORY=$PWD/state TAMIS_REQUIRE_KEYS=true
mkdir state
key=$(tamis keys create newsroom --expires 90d | grep -o 'tamis_[A-Za-z0-9_-]*' | head -n 1)
scraper=$(tamis keys create prometheus --scope metrics | grep -o 'tamis_[A-Za-z0-9_-]*' | head -n 1)
tamis settings | has TAMIS_STATE_DIRECTORY
serve models/spam --workers 2
test "$(curl -s -o /dev/null -w '%{http_code}' "$ADDRESS/prediction?text=hello")" = 401
curl -sf "$ADDRESS/prediction?text=WIN+a+camera" -H "x-api-key: $key" | has '"spam"'
curl -sf "$ADDRESS/health/ready"
both_workers() { curl -sf "$ADDRESS/metrics" -H "x-api-key: $scraper" | has '^tamis_workers 2'; }
eventually both_workers
stop
tamis log --caller newsroom | has camera
python -m apsw state/tamis.db ".backup copy.db"
tamis log --store sqlite:///copy.db --json > calls.json
tamis log delete --caller newsroom --yes
test -z "$(tamis log --caller newsroom --ndjson)"
