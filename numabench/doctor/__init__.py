"""What stands between a machine and a valid run: each check looks at one subject, and nothing is ever written."""
