"""The verb evaluate: masks to scores, scores to reports. It knows no network."""
