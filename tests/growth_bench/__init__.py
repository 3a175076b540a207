"""How soon and how falsely the growth detector alarms."""
