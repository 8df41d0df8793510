/** @param text a report as a browser has rendered it. @returns how many charts it has drawn. */
export declare function checkReport(text: string): number;
