"""Learning rules: who trains, who averages what, who takes over what. Pure protocol code, one file each."""
