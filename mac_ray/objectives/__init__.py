"""What is minimised: each module turns views of a batch into one scalar, a mean over its own positions."""
