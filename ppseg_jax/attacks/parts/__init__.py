"""What several attacks, or the suite, share."""
