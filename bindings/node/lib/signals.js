// The numbers that the main thread and the thread of a store share.

/** 1: an answer is there. */
exports.ANSWERED = 0;
/** 1: the process ends, every call fails. */
exports.CLOSING = 1;
/** 1: the library calls no more. */
exports.RELEASED = 2;
