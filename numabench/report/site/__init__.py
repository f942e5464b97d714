"""A lab's nights as plain files for a browser: no server, no network, and no script that is needed to read them."""
