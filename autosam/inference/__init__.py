"""The verb predict: any picture in, its river out."""
