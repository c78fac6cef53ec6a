"""The market summary of a trading date."""
