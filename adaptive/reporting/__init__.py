"""A report: one page that opens offline and shows what a policy does, and what else it could do.

`subject` says what is reported on, `collect` makes plain figures of it, `page` puts them into HTML.
"""
