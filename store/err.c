#include "err.h"

#include <stdarg.h>
#include <stdio.h>

int err_set(struct err *err, int rc, const char *format, ...)
{
	va_list args;

	if (err) {
		va_start(args, format);
		vsnprintf(err->text, sizeof(err->text), format, args);
		va_end(args);
	}
	return rc;
}
