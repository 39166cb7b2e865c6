"""What a person sees. Everything else works without it."""
