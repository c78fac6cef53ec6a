"""The whole fleet at a glance: does it work, how much flows, what do the processes take."""

from __future__ import annotations

from k2boards.board import Board, Panel, Query, Row
from k2boards.promql import grown, largest, quantiles, rate, smallest, summed

ERRORS = 'k2_http_requests_answered_total{status=~"5.."}'
REQUESTS = "k2_http_requests_answered_total"

BOARD = Board(
    uid="k2-fleet",
    title="K2 / Fleet",
    description="Does the fleet work, how much flows through it, what do its processes take.",
    rows=[
        Row(
            title="Does it work",
            panels=[
                Panel(
                    title="Services up",
                    description="Replicas that Prometheus could read, by service.",
                    queries=[summed("up", by="job")],
                    kind="figure",
                    width=24,
                    height=4,
                ),
                Panel(
                    title="Age of the newest rows",
                    description="Now minus the newest time of ingest; it grows while nothing comes.",
                    queries=[
                        smallest(
                            'k2_rows_committed_ingest_age_seconds{table=~"market.trades|market.quotes"}',
                            by="table",
                        )
                    ],
                    unit="s",
                    limits=(60, 300),
                ),
                Panel(
                    title="Rows unaccounted for",
                    description="Rows that the statuses state and a table lacks, or has too many. "
                    "Anything but 0 for more than a minute: rows were lost or doubled.",
                    queries=[largest("abs(k2_rows_unaccounted)", by="table")],
                    limits=(1,),
                ),
                Panel(
                    title="Oldest unfinished upload",
                    description="Age of the oldest upload without a final receipt.",
                    queries=[largest("k2_uploads_unfinished_oldest_seconds", legend="oldest")],
                    unit="s",
                    limits=(60, 300),
                ),
                Panel(
                    title="Parts that cannot work",
                    description="What a service waits for; it is ready when all are 0.",
                    queries=[largest("k2_service_blocked", by="job, part")],
                    limits=(1,),
                ),
                Panel(
                    title="Share of requests that failed",
                    description="Answers with a status of 500 and more, of all answers.",
                    queries=[
                        Query(
                            expr=f"(sum by (job) (rate({ERRORS}[$__rate_interval])) "
                            f"or 0 * sum by (job) (rate({REQUESTS}[$__rate_interval]))) "
                            f"/ sum by (job) (rate({REQUESTS}[$__rate_interval]))",
                            legend="{{job}}",
                        )
                    ],
                    unit="percentunit",
                    limits=(0.001, 0.01),
                ),
                Panel(
                    title="Work restarted",
                    description="Loops and tables whose work was restarted after a dependency failed.",
                    queries=[grown("k2_works_retried_total", by="job, work")],
                ),
                Panel(
                    title="Messages skipped",
                    description="Messages that could not be decoded, by the topic they lie in.",
                    queries=[grown("k2_messages_skipped_total", by="job, topic")],
                ),
            ],
        ),
        Row(
            title="Objectives",
            panels=[
                Panel(
                    title="Alerts that fire",
                    description="Each has a runbook.",
                    queries=[summed('ALERTS{alertstate="firing"}', by="alertname, severity")],
                    limits=(1,),
                ),
                Panel(
                    title="Requests that failed, of the last hour's",
                    description="As the burn-rate alerts count them.",
                    queries=[
                        Query(
                            expr="job:k2_requests_failed:ratio_rate1h or 0 * job:k2_replicas_up:sum",
                            legend="{{job}}",
                        )
                    ],
                    unit="percentunit",
                ),
                Panel(
                    title="Small uploads that were late, of the last hour's",
                    description="As the burn-rate alerts count them.",
                    queries=[Query(expr="k2:uploads_late:ratio_rate1h", legend="late")],
                    unit="percentunit",
                ),
            ],
        ),
        Row(
            title="What flows",
            panels=[
                Panel(
                    title="Rows by hop",
                    description="Rows read from files, committed to tables, and given to clients.",
                    queries=[
                        rate("k2_rows_loaded_total", legend="loaded"),
                        rate('k2_rows_committed_total{table=~"market[.].+"}', legend="committed"),
                        rate("k2_rows_answered_total", legend="answered"),
                        rate("k2_rows_streamed_total", legend="streamed"),
                        rate("k2_rows_replayed_total", legend="replayed"),
                    ],
                    unit="rowsps",
                ),
                Panel(
                    title="Bytes by hop",
                    description="Bodies received, files committed, answers sent.",
                    queries=[
                        rate("k2_uploads_received_bytes_total", legend="received"),
                        rate("k2_files_committed_bytes_total", legend="committed"),
                        rate("k2_http_requests_answered_bytes_total", by="job", legend="sent by {{job}}"),
                    ],
                    unit="Bps",
                ),
                Panel(
                    title="From a body's last byte to its rows in a query",
                    description="What a user waits for.",
                    queries=quantiles("k2_uploads_committed_seconds", by="size"),
                    unit="s",
                ),
                Panel(
                    title="Waiting",
                    description="What came and is not worked on yet, at each hop.",
                    queries=[
                        summed("k2_uploads_queued", legend="uploads to publish"),
                        summed("k2_chunks_waiting", legend="chunks to load"),
                        summed("k2_records_waiting", legend="records to commit"),
                        summed("k2_queries_waiting", by="job", legend="queries of {{job}}"),
                    ],
                ),
                Panel(
                    title="Requests",
                    description="Requests answered, by service.",
                    queries=[rate(REQUESTS, by="job")],
                    unit="reqps",
                ),
                Panel(
                    title="Requests that are being answered",
                    description="Stays up: clients that read slowly, or a dependency that does not answer.",
                    queries=[summed("k2_http_requests_running", by="job")],
                ),
            ],
        ),
        Row(
            title="Processes",
            panels=[
                Panel(
                    title="Processor",
                    description="Cores in use.",
                    queries=[rate("process_cpu_seconds_total", by="job")],
                ),
                Panel(
                    title="Memory",
                    description="Resident memory of each replica.",
                    queries=[largest("process_resident_memory_bytes", by="job, instance")],
                    unit="bytes",
                ),
                Panel(
                    title="Address space",
                    description="Virtual memory of each replica; seldom of interest.",
                    queries=[largest("process_virtual_memory_bytes", by="job, instance")],
                    unit="bytes",
                ),
                Panel(
                    title="Time since the start",
                    description="Of each replica; it falls to 0 with a restart.",
                    queries=[largest("time() - process_start_time_seconds", by="job, instance")],
                    unit="s",
                ),
                Panel(
                    title="Open files, of those allowed",
                    description="Files and connections.",
                    queries=[largest("process_open_fds / process_max_fds", by="job")],
                    unit="percentunit",
                    limits=(0.7, 0.9),
                ),
                Panel(
                    title="What runs",
                    description="Replicas by version of the service and of the interpreter.",
                    queries=[
                        summed(
                            "k2_build_info",
                            by="service, version, python",
                            legend="{{service}} {{version}}, Python {{python}}",
                        )
                    ],
                ),
                Panel(
                    title="Until a key ends",
                    description="Of the keys that have an end and were used; nothing where there is none.",
                    queries=[smallest("k2_keys_used_left_seconds", by="job")],
                    unit="s",
                ),
            ],
        ),
    ],
)
