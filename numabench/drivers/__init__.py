"""What migrates pages, and why it cannot do so here."""
