"""The checks that look before money is spent: at data, graphs, engines and programs. They find; gates judge."""
