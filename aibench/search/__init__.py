"""The search: proposes networks and hyper-parameters and learns from errors; it runs in the master."""
