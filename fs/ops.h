/* ops.h - the table of what the kernel may ask. Each op unpacks, calls, and answers once; ideas
 * live in the other modules. The session's user data is the struct fs.
 */
#ifndef CUBBY_FS_OPS_H
#define CUBBY_FS_OPS_H

#include <fuse_lowlevel.h>

extern const struct fuse_lowlevel_ops ops;

#endif
