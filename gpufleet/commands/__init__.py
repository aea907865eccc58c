"""One module per command of `gpufleet`. Each imports what it needs when it runs, so that `--help` stays quick."""
