"""What a device needs: transfers, captured graphs, the processor's name."""
