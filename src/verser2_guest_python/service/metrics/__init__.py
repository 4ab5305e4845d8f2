"""What is counted, and what the counts are called: plain numbers, put into words when somebody asks."""
