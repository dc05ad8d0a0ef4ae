"""What sound and text tell together: where speech is, when words are said, what is not to be trusted."""
