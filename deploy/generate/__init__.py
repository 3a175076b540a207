"""What is generated from the catalogues for an operator: dashboards, rules, runbook pages. Not part of the package.

Run from the top of the repository: `make dashboards`, or `python -m deploy.generate --help` for rules and links of your own.
"""
