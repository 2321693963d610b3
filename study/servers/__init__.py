"""How clusters, databases and stores are reached: within seconds, patiently, with their logins."""
