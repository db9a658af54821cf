/* Every symbol that any amdsmi wrapper from 6.0 to 7.0 binds at import; amdsmi.c overrides those that do something. */
#define STUB(name) __attribute__((weak, visibility("default"))) int name(void) { return 2; /* NOT_SUPPORTED */ }
#include "amdsmi_symbols.inc"
