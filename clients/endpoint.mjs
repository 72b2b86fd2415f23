// Where the server is and who asks.
const need = name => {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is missing`);
  return value;
};

export const origin = () => need('MUSUBI_URL');
export const endpoint = () => new URL('/graphql', origin()).href;
export const socket = () => endpoint().replace(/^http/, 'ws');
export const token = () => need('MUSUBI_TOKEN');
