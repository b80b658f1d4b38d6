from .items import BatchError, BatchStoppedError, InputError, Item, JournalError, OtherBatchError
from .on_dask import local_cluster
from .processor import BatchProcessor

__all__ = [
    "BatchError",
    "BatchProcessor",
    "BatchStoppedError",
    "InputError",
    "Item",
    "JournalError",
    "OtherBatchError",
    "local_cluster",
]
