# An ML engineer: distrusts the data and the metrics, improves the model, and promotes it only if it is better.
tamis audit data/sms-spam.csv --json > audit.json
tamis audit data/sms-spam.csv --fix fixed.csv
tamis prepare fixed.csv -o prepared/
tamis train prepared/ -o models/spam --json > first.json
tamis cross-validate fixed.csv --folds 3 --repeats 1
tamis train prepared/ -o models/spam --autotune-trials 2 --max-size 2MB
tamis evaluate models/spam@2 prepared/ --report report.html
tamis compare models/spam@1 models/spam@2 prepared/
tamis models promote models/spam@2 champion
tamis models list models/spam | grep champion
tamis explain models/spam@champion "WIN a camera now" --json > explanation.json
python -m json.tool first.json > /dev/null
look "file://$PWD/models/spam/2/report.html" "ROC"
