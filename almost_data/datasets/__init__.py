"""What a dataset is: builder, tables, filters, ledger, digest, manifest."""
