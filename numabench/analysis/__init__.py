"""Pure reductions of recorded runs: results in, frozen dataclasses out."""
