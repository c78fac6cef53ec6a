"""The metric of files that readers could not use."""

from __future__ import annotations

from k2common.errors import DataDamaged, DataFault, DataMissing
from k2common.iceberg.files.verification import FileVerifier, log_fault
from k2common.observability.metrics import CollectorRegistry, Declarations, Label
from k2common.schemas.datasets import TABLES

READ = Label(name="table", values=tuple(table.table for table in TABLES.values()))
KIND = Label(name="kind", values=(DataDamaged.kind, DataMissing.kind))


class FaultMetrics:
    """All of them, in the services that read tables for clients or for tables of their own."""

    def __init__(self, registry: CollectorRegistry) -> None:
        made = Declarations(registry)
        self.faults = made.counter(
            "k2_data_files_refused",
            "Reads refused because a data file was damaged or missing.",
            look="Above 0: answers are refused with 503 until the file is repaired.",
            labels=[READ, KIND],
        )
        self.declared = made.all

    def report(self, fault: DataFault) -> None:
        """Count the fault and log it."""
        log_fault(fault)
        if fault.table in READ.values:
            self.faults.labels(fault.table, fault.kind).inc()

    def verifier(self, verdict_seconds: float) -> FileVerifier:
        """Return a verifier that reports here."""
        return FileVerifier(verdict_seconds=verdict_seconds, report=self.report)
