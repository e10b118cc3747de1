#include "say.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <syslog.h>

static atomic_bool to_syslog;

void say(const char *format, ...)
{
	char line[1024];
	va_list args;

	va_start(args, format);
	vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	if (atomic_load(&to_syslog))
		syslog(LOG_ERR, "%s", line);
	else
		fprintf(stderr, "cubby: %s\n", line);
}

void say_to_syslog(void)
{
	openlog("cubby", LOG_PID, LOG_DAEMON);
	atomic_store(&to_syslog, true);
}
