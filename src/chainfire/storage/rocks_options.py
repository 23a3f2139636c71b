"""How the RocksDB directory of a member, its state, is set up, and why so."""

from __future__ import annotations

from dataclasses import dataclass

import rocksdict

KIB, MIB = 1 << 10, 1 << 20


@dataclass(slots=True, frozen=True, kw_only=True)
class RocksOptions:
    """What tests vary; the rest is in `database_options`."""

    write_buffer_bytes: int  # one memtable of one family
    write_buffers_max: int  # memtables per family; then writes are Stalled
    memtable_bytes_max: int  # of all families together; then the largest is flushed
    wal_bytes_max: int  # bounds what a start replays
    block_cache_bytes: int  # data, index and filter blocks together
    bloom_bits: int  # per key; 0 = no filter
    compressed: bool

    @classmethod
    def state(cls, cache_bytes: int) -> RocksOptions:
        """Read all the time, never synced for its own sake, grows without bound.

        A start replays the WAL twice (read-only first), at 2 and 3 µs per row:
        16 MiB keep that well below a second.
        """
        return cls(
            write_buffer_bytes=16 * MIB,
            write_buffers_max=4,
            memtable_bytes_max=96 * MIB,
            wal_bytes_max=16 * MIB,
            block_cache_bytes=cache_bytes,
            bloom_bits=10,
            compressed=True,
        )


def database_options(
    options: RocksOptions, cache: rocksdict.Cache, *, create: bool
) -> rocksdict.Options:
    database = family_options(options, cache)
    database.create_if_missing(create)
    database.create_missing_column_families(True)  # of a newer version than the directory's
    database.set_paranoid_checks(True)
    database.set_wal_recovery_mode(rocksdict.DBRecoveryMode.point_in_time())
    database.set_max_total_wal_size(options.wal_bytes_max)
    database.set_db_write_buffer_size(options.memtable_bytes_max)
    # One flushes, two compact: a long compaction (a defragment) leaves a thread to those that keep
    # writes from stalling.
    database.set_max_background_jobs(3)
    database.set_bytes_per_sync(
        MIB
    )  # of SST files: spreads write-back, so that WAL syncs stay short
    database.set_max_open_files(512)
    database.set_max_manifest_file_size(16 * MIB)
    database.set_manifest_preallocation_size(64 * KIB)
    database.set_keep_log_file_num(2)
    database.set_max_log_file_size(MIB)
    database.set_stats_dump_period_sec(0)
    database.set_stats_persist_period_sec(0)
    return database


def family_options(options: RocksOptions, cache: rocksdict.Cache) -> rocksdict.Options:
    table = rocksdict.BlockBasedOptions()
    table.set_format_version(5)
    table.set_block_size(16 * KIB)
    table.set_block_cache(cache)
    # Index and filters in pieces and in the cache: memory does not grow with the number of keys.
    table.set_cache_index_and_filter_blocks(True)
    table.set_pin_top_level_index_and_filter(True)
    table.set_pin_l0_filter_and_index_blocks_in_cache(True)
    table.set_index_type(rocksdict.BlockBasedIndexType.two_level_index_search())
    if options.bloom_bits:
        table.set_bloom_filter(options.bloom_bits, False)
        table.set_partition_filters(True)
        table.set_metadata_block_size(4 * KIB)
    family = rocksdict.Options(raw_mode=True)
    family.set_block_based_table_factory(table)
    family.set_write_buffer_size(options.write_buffer_bytes)
    family.set_max_write_buffer_number(options.write_buffers_max)
    if options.bloom_bits:
        # Of the memtable's own: a get that is not answered there skips its skip list (−2 µs).
        family.set_memtable_prefix_bloom_ratio(0.05)
        family.set_memtable_whole_key_filtering(True)
    family.set_level_compaction_dynamic_level_bytes(True)
    family.set_level_zero_file_num_compaction_trigger(8)  # small WAL, small files: merge more
    compression = rocksdict.DBCompressionType
    family.set_compression_type(compression.lz4() if options.compressed else compression.none())
    return family
