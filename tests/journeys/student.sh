# A workshop student: data, preparation step by step, model, minimal API without a model, full API with .env, cache, log.
tamis audit data/sms-spam.csv
mkdir prepared && echo 'Prepared data goes here.' > prepared/README
tamis prepare data/sms-spam.csv -o prepared/ --split random --test-size .33 --seed 42 -v | has vocabulary
tamis train prepared/ -o models/spam
tamis predict models/spam --one-text This is my example
serve --mock
curl -sf "$ADDRESS/prediction?text=anything" | has '"top"'
stop
printf 'API_NAME="Fire Dragon!"\nMODEL_DIRECTORY=models/spam\nMODEL_VERSION=v1\n' > .env
serve
curl -sf "$ADDRESS/" | has 'Fire Dragon!'
curl -sf "$ADDRESS/prediction?text=cache+me" | has '"from_cache": *false'
curl -sf "$ADDRESS/prediction?text=cache+me" | has '"from_cache": *true'
curl -sf "$ADDRESS/recent_log" | python -m json.tool | has 'cache me'
look "$ADDRESS/ui" "Fire Dragon!"
stop
python -m apsw models/spam/tamis.db 'SELECT caller, text, label FROM calls' | has 'cache me'
