"""The verbs tied together: what each command does."""
