"""Import paths of earlier releases; nothing lives here."""
