"""The twin's own service models: strict where AWS is strict, each rule with its source."""
