"""The linear model: hashed words, n-grams and shapes, weighted by TF-IDF, one weight a feature and class.

`features` and `weights` are numpy alone and serve; `classifier` learns and needs scikit-learn.
"""
