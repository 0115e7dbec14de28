"""What a data set may be at most, in one place: what is larger is refused before it is made in memory."""

MIB = 2**20
MAX_UPLOAD_BYTES = 256 * MIB  # the file as it comes
MAX_CHUNK_BYTES = 1 * MIB
MAX_UPLOAD_SECONDS = 1800.0  # a client that stalls gives its place back
MAX_UPLOADS = 2  # taken at the same time
MAX_DESCRIPTION = 500
MAX_STORED = 500  # names of uploads
MAX_STORED_BYTES = 4096 * MIB  # all their examples and labels; what two names share counts once

MAX_DECODED_BYTES = 512 * MIB  # all examples; a table's values count 8 bytes each, as they do while they are read
MAX_ROWS = 2_000_000
MAX_COLUMNS = 16_384
MAX_COLUMN_NAME = 100
MAX_VALUE = 1e15  # a feature's; what is larger is a mistake, and its square could overflow
MAX_LINE_CHARACTERS = 4 * MIB

MIN_CLASSES = 2
MAX_CLASSES = 1000
MAX_CLASS_LABEL = 100

MAX_IMAGE_VALUES = 2**18  # height × width × channels of one image
MAX_ARCHIVE_MEMBERS = 250_000
MAX_COMPRESSION_RATIO = 100  # PNG and JPEG files are compressed already; what shrinks more than this is a bomb
BOMB_BYTES = 64 * 2**10  # … unless it is this small
MAX_ARCHIVE_RATIO = 200  # a whole archive; tables of mostly zeros shrink more than images do
MIN_ARCHIVE_BOMB_BYTES = 16 * MIB  # … unless it unpacks to no more than this
