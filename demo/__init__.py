"""The demo: real traffic, a tenfold surge with an outage inside, through headgate and through no limits at all."""
