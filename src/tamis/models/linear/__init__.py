"""The linear model: hashed words, n-grams and shapes, TF-IDF, one weight per feature and class."""
