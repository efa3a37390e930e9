"""What the supervisor and its workers share: errors, data types, tensors, messages and memory."""
