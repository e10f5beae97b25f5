// The pictures in examples/, each with its texts example_NAME and credit_NAME. Their sources are in examples/README.md.

export const EXAMPLES = ['astronaut', 'group', 'admiral', 'photographer', 'dark', 'child']
