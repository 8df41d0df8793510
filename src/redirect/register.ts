/** `import "netpopcorn/register"`, or `--import` it: a kernel's thread uses its kernel for all it opens. */
import { redirectToDefault } from "./index.ts";

redirectToDefault();
