"""Other people's models on these operators."""
