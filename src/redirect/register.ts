/** `import "netpopcorn/register"`, or `--import netpopcorn/register`: a kernel's thread uses its kernel for all it opens. */
import { redirectToDefault } from "./index.ts";

redirectToDefault();
