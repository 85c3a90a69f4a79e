"""What stands around a node when it is tried: an archive, senders, nodes that can be killed."""
