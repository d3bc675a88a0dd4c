# A new developer: has a CSV of their own and wants an API to build against, today.
# Their columns have other names; they look at the page in a browser, and stop with Ctrl+C.
tamis --version
tamis train mail.csv -o models/mail --label-column kind --text-column note
tamis predict models/mail "WIN a camera now" "see you at the library"
python -c '
from tamis import Classifier
classifier = Classifier.load("models/mail")
print(classifier.predict("WIN a camera now").label)
'
serve models/mail
curl -sf "$ADDRESS/prediction" -H 'content-type: application/json' -d '{"text": "WIN a camera now"}' | has '"spam"'
curl -sf "$ADDRESS/docs" | has -i swagger
look "$ADDRESS/ui" "mail"
stop
