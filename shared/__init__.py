"""What both services stand on: the contract, the network, the store, and how a server is started and stopped."""
