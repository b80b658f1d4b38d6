"""The learner's copies of the notebooks: what `course setup`, `update`, `reset` and `diff` do with them."""
