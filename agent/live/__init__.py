"""What every camera needs and no capture library gives: freshness, pace, coming back."""
