"""The boards, one a file; growth and drilldown are what several of them share."""
