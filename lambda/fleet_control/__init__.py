"""Everything that runs as a cloud function: two pure laws, and thin adapters per cloud that look and act."""
