"""Who a process is to Kafka, and who may do what there. Pure, but for the one identity it holds."""
