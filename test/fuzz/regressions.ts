/** Programs (base64) that once failed, with what was wrong. */
export const REGRESSIONS: readonly { readonly what: string; readonly program: string }[] = [
  {
    what: "a window reduced for ECN before there was a flight block: a division by zero",
    program:
      "5KQNfj12CJa2p4PvkYGG9yFUzQ/ACSdgrlH2kbJzKZ5BwLhLPyUcG2XmWExnd+5vCH0pbSWinBSez9cQrBLHygPq/MOd9gu7cNwS" +
      "O/fZwnKVLAq0TiJ3LlKduF0AS99i56utHBu2qNrwNPSI3iQ1tOufaWa6cQ39iJIZA2++lvmyzadU6mvys/aNdxNLzaXkD+oHcX/G" +
      "yuXssPDLiCzXGAY3AHbUtCElrfdTMSnrLrBLVszq6JQmg5rtElBgZUpGc+w5VVkH3mFiGBk5z81YOJPtw8Q3ivxJAofZCP6p7dir" +
      "SfSorLncfvlBA98IQxNRuJTTkH1Ya0FMLJIgjlby4jCQY6RKMuDughIE0A==",
  },
];
